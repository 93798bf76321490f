import { Collection, EntityRepositoryType } from '@mikro-orm/core';
import { Entity, ManyToOne, OneToMany, PrimaryKey, Property, Unique } from '@mikro-orm/decorators/es';
import { CacheRegion, CachedRepo, PlusRepo } from '../../src/index.js';

@Entity({ repository: () => PlusRepo })
@CacheRegion({ ttl: 60_000, exclude: ['secret'] })
export class Tenant {
  [EntityRepositoryType]?: PlusRepo<Tenant>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  slug!: string;

  @Property({ type: 'string', nullable: true })
  secret?: string;

  @OneToMany({ entity: () => Member, mappedBy: 'tenant' })
  members = new Collection<Member>(this);
}

@Entity({ repository: () => CachedRepo })
@Unique({ properties: ['tenant', 'email'] })
export class Member {
  [EntityRepositoryType]?: CachedRepo<Member>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @ManyToOne({ entity: () => Tenant })
  tenant!: Tenant;

  @Property({ type: 'string' })
  email!: string;

  @Property({ type: 'datetime', onCreate: () => new Date() })
  createdAt!: Date;
}
