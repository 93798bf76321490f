/** What each statement is: `select`, `insert`, `upsert`, `begin`, `savepoint`, … */
export function kinds(statements: readonly string[]): string[] {
  return statements.map((statement) => {
    if (!statement.startsWith('with ')) return /^\w+/.exec(statement)?.[0] ?? statement;
    return statement.includes(' as (update ') ? 'upsert' : 'insert';
  });
}
