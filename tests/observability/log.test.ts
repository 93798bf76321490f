import { DefaultLogger } from '@mikro-orm/postgresql';
import { MemoryStore, PLUS_LOGS, PlusSubscriber } from '../../src/index.js';
import { ControlledStore } from '../cache/support/ControlledStore.js';
import { Tag } from '../cache/support/entities.js';
import { MikroORM } from '@mikro-orm/postgresql';
import { createDatabase, dropDatabase } from '../harness/servers.js';
import { until } from '../harness/until.js';

test("MikroORM's logger is told in a namespace of its own when a store fails, and when it is back", async () => {
  const url = await createDatabase('log');
  const store = new ControlledStore(new MemoryStore());
  const lines: string[] = [];
  const orm = await MikroORM.init({
    entities: [Tag],
    clientUrl: url,
    debug: [PLUS_LOGS],
    colors: false,
    logger: (line) => void lines.push(line),
    loggerFactory: (options) => new DefaultLogger(options),
    subscribers: [new PlusSubscriber({ stores: { default: store }, timeout: 30_000 })],
  });
  try {
    await orm.schema.create();
    store.fail();
    await orm.em.fork().getRepository(Tag).getOrCreate({ name: 'secret' });
    await orm.em.fork().getRepository(Tag).getOrCreate({ name: 'secret' });
    store.heal();
    await until(() => lines.length > 1);
    expect(lines).toEqual([
      expect.stringMatching(
        /\[mikro-orm-plus\] store 'default': 'read' failed: .*; the database answers until it is back/,
      ),
      expect.stringContaining("[mikro-orm-plus] store 'default': answers again"),
    ]);
    expect(lines.join()).not.toContain('secret');
  } finally {
    await orm.close();
    await dropDatabase(url);
  }
});
