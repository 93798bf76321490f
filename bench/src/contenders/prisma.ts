import { PrismaPg } from '@prisma/adapter-pg';
import { DEFAULTS, type Contender, type Environment } from './contender.js';
import { PrismaClient } from './prisma-client/client.js';

/** `upsert` with an empty `update`, which is how Prisma's reference says to find or create. */
export async function open({ databaseUrl, pool: max }: Environment): Promise<Contender> {
  const client = new PrismaClient({ adapter: new PrismaPg({ connectionString: databaseUrl, max }) });
  await client.$connect();
  return {
    getOrCreate: (name) => client.item.upsert({ where: { name }, update: {}, create: { name, ...DEFAULTS } }),
    getOrCreateMany: async (names) => {
      await client.item.createMany({ data: names.map((name) => ({ name, ...DEFAULTS })), skipDuplicates: true });
      return client.item.findMany({ where: { name: { in: names } } });
    },
    close: () => client.$disconnect(),
  };
}
