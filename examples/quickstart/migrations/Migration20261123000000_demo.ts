import { Migration } from '@mikro-orm/migrations';
import { changeLogDown, changeLogUp, triggersDown, triggersUp } from '../../../src/migrations.js';

const cached = ['demo_basket', 'demo_basket_item', 'demo_setting', 'demo_tag'];

export class Migration20261123000000_demo extends Migration {
  override name = 'Migration20261123000000_demo';

  override up(): void | Promise<void> {
    this.addSql(`create table "demo_basket" ("id" serial primary key, "label" varchar(255) not null);`);
    this.addSql(`alter table "demo_basket" add constraint "demo_basket_label_unique" unique ("label");`);

    this.addSql(
      `create table "demo_basket_item" ("id" serial primary key, "basket_id" int not null, "name" varchar(255) not null);`,
    );
    this.addSql(
      `alter table "demo_basket_item" add constraint "demo_basket_item_basket_id_name_unique" unique ("basket_id", "name");`,
    );

    this.addSql(
      `create table "demo_setting" ("id" serial primary key, "name" varchar(255) not null, "value" varchar(255) not null default 'unset');`,
    );
    this.addSql(`alter table "demo_setting" add constraint "demo_setting_name_unique" unique ("name");`);

    this.addSql(`create table "demo_tag" ("id" serial primary key, "name" varchar(255) not null, "weight" int null);`);
    this.addSql(`alter table "demo_tag" add constraint "demo_tag_name_unique" unique ("name");`);

    this.addSql(
      `alter table "demo_basket_item" add constraint "demo_basket_item_basket_id_foreign" foreign key ("basket_id") references "demo_basket" ("id");`,
    );

    // what `npx mikro-orm migration:create` would write out, since mikro-orm.config.ts uses withChangeLog()
    for (const sql of changeLogUp()) this.addSql(sql);
    for (const table of cached) {
      for (const sql of triggersUp({ table, primaryKey: ['id'] })) this.addSql(sql);
    }
  }

  override down(): void | Promise<void> {
    for (const table of cached) for (const sql of triggersDown({ table })) this.addSql(sql);
    for (const sql of changeLogDown()) this.addSql(sql);

    this.addSql(`alter table "demo_basket_item" drop constraint "demo_basket_item_basket_id_foreign";`);

    this.addSql(`drop table if exists "demo_basket" cascade;`);
    this.addSql(`drop table if exists "demo_basket_item" cascade;`);
    this.addSql(`drop table if exists "demo_setting" cascade;`);
    this.addSql(`drop table if exists "demo_tag" cascade;`);
  }
}
