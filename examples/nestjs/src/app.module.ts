import { MikroORM, PostgreSqlDriver } from '@mikro-orm/postgresql';
import { MikroOrmModule } from '@mikro-orm/nestjs';
import { Module, type OnModuleInit } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { PlusSubscriber } from 'mikro-orm-plus';
import { HealthController } from './health.controller.js';
import { Tag } from './tag.entity.js';
import { TagsController } from './tags.controller.js';

/** Makes the one PlusSubscriber injectable, beside registering it. */
@Module({
  providers: [
    {
      provide: PlusSubscriber,
      useFactory: () => new PlusSubscriber({ stores: { default: process.env.REDIS_URL ?? 'memory://' } }),
    },
  ],
  exports: [PlusSubscriber],
})
class PlusModule {}

@Module({
  imports: [
    PlusModule,
    TerminusModule,
    MikroOrmModule.forRootAsync({
      driver: PostgreSqlDriver,
      imports: [PlusModule],
      inject: [PlusSubscriber],
      useFactory: (plus: PlusSubscriber) => ({
        driver: PostgreSqlDriver,
        clientUrl: process.env.DATABASE_URL,
        entities: [Tag],
        subscribers: [plus],
      }),
    }),
    MikroOrmModule.forFeature([Tag]),
  ],
  controllers: [TagsController, HealthController],
})
export class AppModule implements OnModuleInit {
  constructor(private readonly orm: MikroORM) {}

  /** For the example only: a real service runs migrations. */
  async onModuleInit(): Promise<void> {
    await this.orm.schema.update();
  }
}
