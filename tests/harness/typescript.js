/**
 * Lets a process that a test starts run this project's TypeScript: `node --import <this file> worker.ts`. Unlike tsx it
 * has nothing to do with what lies in `node_modules`, so that a worker with MikroORM takes half the CPU time to start.
 */
import { existsSync, readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { transformSync } from '@swc/core';
import { swcOptions } from './swc-options.js';

process.setSourceMapsEnabled(true);

const options = { ...swcOptions(), module: { type: 'es6' }, swcrc: false, configFile: false };

registerHooks({
  resolve(specifier, context, nextResolve) {
    if (/^\.{1,2}\/.*\.js$/.test(specifier) && context.parentURL) {
      const source = new URL(specifier.replace(/js$/, 'ts'), context.parentURL);
      if (existsSync(source)) return { url: source.href, format: 'module', shortCircuit: true };
    }
    return nextResolve(specifier, context);
  },
  load(url, context, nextLoad) {
    if (!url.endsWith('.ts')) return nextLoad(url, context);
    const filename = fileURLToPath(url);
    const { code } = transformSync(readFileSync(filename, 'utf8'), { ...options, filename });
    return { source: code, format: 'module', shortCircuit: true };
  },
});
