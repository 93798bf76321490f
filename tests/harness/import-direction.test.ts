import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

interface Diagnostic {
  code: string;
  filename: string;
}

describe('the linter', () => {
  let project: string;
  beforeEach(async () => {
    project = await mkdtemp(join(tmpdir(), 'import-direction-'));
    await cp('.oxlintrc.json', join(project, '.oxlintrc.json'));
  });
  afterEach(() => rm(project, { recursive: true }));

  it('rejects imports that point upwards', async () => {
    const upwards = {
      'src/orm/a.ts': `import { x } from '../sql/select.js'; x();`,
      'src/orm/nested/b.ts': `import { x } from '../../flows/lookup.js'; x();`,
      'src/config/c.ts': `import type { X } from '../stores/redis/RedisStore.js'; export type Y = X;`,
      'src/observability/d.ts': `export { x } from '../PlusSubscriber.js';`,
      'src/errors.ts': `import { x } from './natural-keys/plan.js'; x();`,
      'src/natural-keys/e.ts': `import { x } from '../flows/lookup.js'; x();`,
      'src/sql/f.ts': `import { x } from '../repositories/PlusRepo.js'; x();`,
      'src/codec/g.ts': `import { x } from '../cli/main.js'; x();`,
      'src/stores/redis/h.ts': `import { x } from '../../migrations/install.js'; x();`,
      'src/near-cache/i.ts': `import { x } from '../PlusSubscriber.js'; x();`,
      'src/invalidation/j.ts': `import { x } from '../flows/commit.js'; x();`,
      'src/invalidation/relay/p.ts': `import { x } from '../../RegionDirectory.js'; x();`,
      'src/flows/k.ts': `import { x } from '../repositories/PlusRepo.js'; x();`,
      'src/flows/l.ts': `import { x } from '../PlusSubscriber.js'; x();`,
      'src/codec/o.ts': `export const x = () => import('../flows/commit.js');`,
      'src/repositories/m.ts': `import { x } from '../index.js'; x();`,
      'src/stores/redis/n.ts': `import { x } from '../../index.js'; x();`,
      'src/PlusSubscriber.ts': `import { x } from './index.js'; x();`,
    };
    const findings = await lint(upwards);
    expect(findings.map(({ filename }) => filename).toSorted()).toEqual(Object.keys(upwards).toSorted());
    expect(new Set(findings.map(({ code }) => code))).toEqual(new Set(['eslint(no-restricted-imports)']));
  });

  it('accepts imports that point downwards or stay within a layer', async () => {
    const findings = await lint({
      'src/index.ts': `export { x } from './flows/lookup.js'; export { y } from './PlusSubscriber.js';`,
      'src/PlusSubscriber.ts': `import { x } from './repositories/PlusRepo.js'; import { y } from './errors.js'; x(y);`,
      'src/repositories/a.ts': `import { x } from '../PlusSubscriber.js'; import { y } from '../sql/select.js'; x(y);`,
      'src/flows/b.ts': `import { x } from '../stores/redis/RedisStore.js'; import { y } from './commit.js'; x(y);`,
      'src/stores/redis/c.ts': `import { x } from '../../sql/select.js'; import { y } from '../../errors.js'; x(y);`,
      'src/orm/d.ts': `import { x } from '../config/region-options.js'; import { y } from '@mikro-orm/sql'; x(y);`,
    });
    expect(findings).toEqual([]);
  });

  it('rejects cycles', async () => {
    const findings = await lint({
      'src/sql/a.ts': `import { b } from './b.js'; export const a = () => b();`,
      'src/sql/b.ts': `import { a } from './a.js'; export const b = (): unknown => a();`,
    });
    expect(findings.map(({ code }) => code)).toContain('import(no-cycle)');
  });

  async function lint(files: Record<string, string>): Promise<Diagnostic[]> {
    for (const [file, text] of Object.entries(files)) {
      await mkdir(dirname(join(project, file)), { recursive: true });
      await writeFile(join(project, file), text);
    }
    const { stdout } = spawnSync(resolve('node_modules/.bin/oxlint'), ['--format', 'json'], {
      cwd: project,
      encoding: 'utf8',
    });
    return (JSON.parse(stdout) as { diagnostics: Diagnostic[] }).diagnostics;
  }
});
