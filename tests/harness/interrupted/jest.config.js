import base from '../../../jest.config.js';

/** For the runs that servers-end.test.ts starts and interrupts. */
export default { ...base, rootDir: '../../..', testMatch: ['**/interrupted/*.fixture.ts'] };
