/** Bundles each entry without its peers, minified, and fails when it is larger than it may be. */
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const { dependencies = {}, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
/** Bytes after gzip: what there is, and some room. Raise a limit on purpose, not by accident. */
const limits = { 'dist/index.js': 61_000, 'dist/opentelemetry.js': 3_000 };

for (const [entry, limit] of Object.entries(limits)) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    external: [...Object.keys(dependencies), ...Object.keys(peerDependencies)],
  });
  const size = gzipSync(outputFiles[0].contents).length;
  console.log(`${entry}: ${size} bytes of ${limit}, minified and gzipped, without dependencies`);
  if (size > limit) process.exitCode = 1;
}
