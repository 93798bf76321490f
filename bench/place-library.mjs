/** Puts the built library where `npm install mikro-orm-plus` would: its package.json and dist, beside its peers. */
import { cpSync, existsSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const target = path('node_modules/mikro-orm-plus');

if (!existsSync(path('../dist/index.js'))) throw new Error('Build the library first: npm run build');
rmSync(target, { recursive: true, force: true });
for (const part of ['package.json', 'dist']) cpSync(path(`../${part}`), `${target}/${part}`, { recursive: true });
