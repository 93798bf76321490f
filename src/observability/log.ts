import type { Logger, LoggerNamespace } from '@mikro-orm/core';

/**
 * The namespace of this library's messages in MikroORM's logger: `debug: [PLUS_LOGS]` turns them on, as `debug: true`
 * turns on everything. A logger of your own (`loggerFactory`) gets it as the first argument.
 */
export const PLUS_LOGS = 'mikro-orm-plus' as LoggerNamespace;

/** Logs that a store is bypassed from now on, or asked again. */
export function logCircuit(
  logger: Logger,
  store: string,
  isOpen: boolean,
  cause?: { readonly operation: string; readonly error: unknown },
): void {
  if (!isOpen) return logger.log(PLUS_LOGS, `store '${store}': answers again`);
  const reason = cause ? ` '${cause.operation}' failed: ${String(cause.error)};` : '';
  logger.warn(PLUS_LOGS, `store '${store}':${reason} the database answers until it is back`);
}
