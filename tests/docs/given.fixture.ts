/**
 * What code blocks of the documentation may take as given, by a comment before them: `<!-- given: em, Tag -->`. Compiled
 * with the blocks, against the packed library.
 */
import { Entity, ManyToMany, ManyToOne, OneToMany, PrimaryKey, Property, Unique } from '@mikro-orm/decorators/es';
import {
  Collection,
  defineEntity,
  EntityRepositoryType,
  p,
  type EntityManager,
  type MikroORM,
} from '@mikro-orm/postgresql';
import { GetOrCreateRepo, PlusRepo, withRepo, type PlusSubscriber, type StoreSource } from 'mikro-orm-plus';

export * from '@mikro-orm/postgresql';
export { Migrator } from '@mikro-orm/migrations';
export { Entity, PrimaryKey, Property };
export * from 'mikro-orm-plus';
export type { UpdateOptions } from 'mikro-orm-plus';
export * from 'mikro-orm-plus/migrations';

@Entity({ repository: () => PlusRepo })
export class Tag {
  [EntityRepositoryType]?: PlusRepo<Tag>;
  @PrimaryKey({ type: 'integer' }) id!: number;
  @Property({ type: 'string', unique: true }) name!: string;
  @Property({ type: 'integer', nullable: true }) weight?: number | null;
}

@Entity()
export class Thing {
  @PrimaryKey({ type: 'integer' }) id!: number;
  @Property({ type: 'string' }) name!: string;
  @ManyToMany(() => Tag) tags = new Collection<Tag>(this);
}

export const Label = withRepo(
  defineEntity({ name: 'Label', properties: { id: p.integer().primary(), name: p.string().unique() } }),
  GetOrCreateRepo,
);

@Entity({ repository: () => PlusRepo })
export class Basket {
  [EntityRepositoryType]?: PlusRepo<Basket>;
  @PrimaryKey({ type: 'integer' }) id!: number;
  @Property({ type: 'string', unique: true }) owner!: string;
  @OneToMany(() => BasketItem, (item) => item.basket) items = new Collection<BasketItem>(this);
}

@Entity({ repository: () => PlusRepo })
@Unique({ properties: ['basket', 'name'] })
export class BasketItem {
  [EntityRepositoryType]?: PlusRepo<BasketItem>;
  @PrimaryKey({ type: 'integer' }) id!: number;
  @ManyToOne(() => Basket) basket!: Basket;
  @Property({ type: 'string' }) name!: string;
}

export declare const em: EntityManager;
export declare const orm: MikroORM;
export declare const plus: PlusSubscriber;
export declare const stores: Record<string, StoreSource>;
export declare const thing: Thing;
