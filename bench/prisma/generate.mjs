/**
 * Generates Prisma's client. The command downloads an engine that a client with a driver adapter never uses; naming any
 * file as that engine spares it, and lets the benchmark be installed where only the npm registry can be reached.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

execFileSync(
  process.execPath,
  [
    fileURLToPath(import.meta.resolve('prisma/build/index.js')),
    'generate',
    '--schema',
    'prisma/schema.prisma',
    '--no-hints',
  ],
  {
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    env: {
      ...process.env,
      PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
      PRISMA_HIDE_UPDATE_MESSAGE: '1',
      CHECKPOINT_DISABLE: '1',
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  },
);
