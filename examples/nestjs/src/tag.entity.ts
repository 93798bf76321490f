import { EntityRepositoryType } from '@mikro-orm/core';
import { Entity, PrimaryKey, Property } from '@mikro-orm/decorators/legacy';
import { PlusRepo } from 'mikro-orm-plus';

@Entity({ repository: () => PlusRepo })
export class Tag {
  [EntityRepositoryType]?: PlusRepo<Tag>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  name!: string;
}
