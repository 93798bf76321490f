// Plain JavaScript: Jest loads this file itself, before its TypeScript transform applies to relative imports.
import { tsImport } from 'tsx/esm/api';

export default async function globalSetup() {
  const { startTestRun } = await tsImport('./servers.ts', import.meta.url);
  try {
    globalThis.mikroOrmPlusServers = await startTestRun();
  } catch (error) {
    console.error(`\n${error.message}`);
    process.exit(1);
  }
}
