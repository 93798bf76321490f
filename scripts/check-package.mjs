/** Packs the package, installs the tarball next to its peers into an empty project, and imports it there. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { name, version, peerDependencies, devDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const project = mkdtempSync(join(tmpdir(), 'check-package-'));
const run = (command, args, cwd = '.') =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

try {
  const [{ filename }] = JSON.parse(run('npm', ['pack', '--json', '--silent', '--pack-destination', project]));
  // The versions this project is developed with; npm checks that they are within the peer ranges.
  const peers = Object.fromEntries(Object.keys(peerDependencies).map((peer) => [peer, devDependencies[peer]]));
  const dependencies = { [name]: `file:${filename}`, ...peers };
  writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }));
  run('npm', ['install', '--strict-peer-deps', '--prefer-offline', '--no-audit', '--no-fund', '--silent'], project);

  writeFileSync(
    join(project, 'index.js'),
    `import { PlusRepo } from '${name}';
     import { withChangeLog } from '${name}/migrations';
     import { enableTelemetry } from '${name}/opentelemetry';
     if (typeof PlusRepo !== 'function') throw new Error('PlusRepo is not a class');
     if (withChangeLog({}).entities.length !== 1) throw new Error('withChangeLog() adds no entity');
     enableTelemetry().stop();`,
  );
  run(process.execPath, ['index.js'], project);

  // The command line, as npm installs it; without a configuration it says so, with the exit code of wrong usage.
  const bin = join(project, 'node_modules/.bin', name);
  const printed = run(bin, ['--version'], project).trim();
  if (printed !== version) throw new Error(`${name} --version prints '${printed}'`);
  const { status, stderr } = spawnSync(bin, ['doctor'], { cwd: project, encoding: 'utf8' });
  if (status !== 2 || !stderr.includes('config file not found')) {
    throw new Error(`${name} doctor without a configuration: exit code ${status}, ${stderr}`);
  }
  console.log(`${filename} can be installed, imported and run.`);
} finally {
  rmSync(project, { recursive: true });
}
