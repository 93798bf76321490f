/** Runs the SQL of its standard input on an empty database, and prints what pg_dump writes of that. */
import { text } from 'node:stream/consumers';
import { PGlite } from '@electric-sql/pglite';
import { pgDump } from '@electric-sql/pglite-tools/pg_dump';

const database = await PGlite.create();
await database.exec(await text(process.stdin));
const dump = await pgDump({ pg: database });
process.stdout.write(await dump.text());
await database.close();
