import base from './jest.config.js';

// for the test files, which run in processes of their own
process.env.PLUS_TEST_DRIVER = 'pglite';

const files = ['cache/examples', 'cache/rules', 'flows/eager', 'flows/entity-matrix', 'flows/progress'];

/**
 * The tests that need no second connection to the database, on PGlite.
 *
 * @type {import('jest').Config}
 */
export default { ...base, testTimeout: 300_000, testMatch: files.map((file) => `<rootDir>/tests/${file}.test.ts`) };
