/** What a test run leaves on a server starts with these names, so that it can be told from everything else there. */
export const databasePrefix = (runId: string): string => `plus_test_${runId}_`;
export const redisPrefix = (runId: string): string => `plus-test:${runId}:`;
