import { InjectRepository } from '@mikro-orm/nestjs';
import { Controller, Param, Put } from '@nestjs/common';
import { PlusRepo } from 'mikro-orm-plus';
import { Tag } from './tag.entity.js';

@Controller('tags')
export class TagsController {
  // works on the EntityManager of the request, which MikroOrmModule's middleware makes for each
  constructor(@InjectRepository(Tag) private readonly tags: PlusRepo<Tag>) {}

  @Put(':name')
  async put(@Param('name') name: string): Promise<{ id: number; name: string; created: boolean }> {
    const [tag, created] = await this.tags.getOrCreate({ name });
    return { id: tag.id, name: tag.name, created };
  }
}
