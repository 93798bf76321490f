import { TestEnvironment } from 'jest-environment-node';

const exit = () => process.exit(1);

/** A Jest worker whose parent was killed would go on with its test file, or hang in it for good: this one ends. */
export default class extends TestEnvironment {
  async setup() {
    await super.setup();
    process.on('disconnect', exit);
  }

  async teardown() {
    process.off('disconnect', exit);
    await super.teardown();
  }
}
