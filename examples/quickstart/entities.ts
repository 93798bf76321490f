import { Collection, EntityRepositoryType } from '@mikro-orm/core';
import { Entity, ManyToOne, OneToMany, PrimaryKey, Property, Unique } from '@mikro-orm/decorators/es';
import { CacheRegion, CachedRepo, PlusRepo, type CreationContext, type Values } from '../../src/index.js';

/** Found by name, never changed: what a cache likes best. */
@Entity({ tableName: 'demo_tag', repository: () => CachedRepo })
@CacheRegion({ store: 'rows', ttl: 600_000 })
export class Tag {
  [EntityRepositoryType]?: CachedRepo<Tag>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  name!: string;

  @Property({ type: 'integer', nullable: true })
  weight?: number;
}

/** Found by name, and changed now and then. */
@Entity({ tableName: 'demo_setting', repository: () => PlusRepo })
@CacheRegion({ store: 'rows' })
export class Setting {
  [EntityRepositoryType]?: PlusRepo<Setting>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  name!: string;

  @Property({ type: 'string' })
  value: string = 'unset';
}

/** A parent that creates its children along with itself. */
export class BasketRepo extends PlusRepo<Basket> {
  protected override async createEntity(data: Values<Basket>, context: CreationContext): Promise<Basket> {
    const { items, ...rest } = data;
    const basket = await super.createEntity(rest, context);
    for (const { name } of items as { name: string }[]) {
      await context.em.getRepository(BasketItem).getOrCreate({ basket, name });
    }
    return basket;
  }
}

@Entity({ tableName: 'demo_basket', repository: () => BasketRepo })
export class Basket {
  [EntityRepositoryType]?: BasketRepo;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  label!: string;

  @OneToMany({ entity: () => BasketItem, mappedBy: 'basket' })
  items = new Collection<BasketItem>(this);
}

@Entity({ tableName: 'demo_basket_item', repository: () => PlusRepo })
@Unique({ properties: ['basket', 'name'] })
export class BasketItem {
  [EntityRepositoryType]?: PlusRepo<BasketItem>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @ManyToOne({ entity: () => Basket })
  basket!: Basket;

  @Property({ type: 'string' })
  name!: string;
}
