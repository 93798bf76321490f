import { swcOptions } from './tests/harness/swc-options.js';

const swc = (decorators) => ['@swc/jest', swcOptions(decorators)];

/** @type {import('jest').Config} */
export default {
  roots: ['<rootDir>/tests'],
  testMatch: ['**/*.test.ts'],
  testEnvironment: '<rootDir>/tests/harness/environment.js',
  // what a test waits for has limits of its own; this one only ends what hangs, also on a slow and busy machine
  testTimeout: 240_000,
  testSequencer: '<rootDir>/tests/harness/sequencer.js',
  maxWorkers: 4,
  // a worker with a large heap spends its time collecting garbage: a new one is faster
  workerIdleMemoryLimit: '700MB',
  globalSetup: '<rootDir>/tests/harness/global-setup.js',
  globalTeardown: '<rootDir>/tests/harness/global-teardown.js',
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': ['$1.ts', '$1.js'] },
  transform: {
    // Entities in the style of TypeScript's old `experimentalDecorators`, which many projects still use.
    '/legacy/.+\\.ts$': swc({ legacyDecorator: true, decoratorMetadata: false }),
    '\\.ts$': swc(),
  },
};
