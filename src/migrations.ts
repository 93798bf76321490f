/**
 * The schema of the change log, exported as `mikro-orm-plus/migrations`.
 *
 * @module mikro-orm-plus/migrations
 */
export {
  changeLogDown,
  changeLogUp,
  triggersDown,
  triggersUp,
  type ChangeLogOptions,
  type TriggerOptions,
} from './migrations/statements.js';
export { withChangeLog } from './migrations/with-change-log.js';
