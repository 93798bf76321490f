/**
 * Puts the built library where `npm install mikro-orm-plus` would: its package.json and dist, beside its peers. Its
 * ioredis is the major version that it asks for; the one beside it is an older one, for a peer that can't use that yet.
 */
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const target = path('node_modules/mikro-orm-plus');

if (!existsSync(path('../dist/index.js'))) throw new Error('Build the library first: npm run build');
rmSync(target, { recursive: true, force: true });
for (const part of ['package.json', 'dist']) cpSync(path(`../${part}`), `${target}/${part}`, { recursive: true });
mkdirSync(`${target}/node_modules`);
symlinkSync(path('node_modules/ioredis-6'), `${target}/node_modules/ioredis`, 'junction');
