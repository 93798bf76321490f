import type { Call, CommandName } from './arguments.js';
import { doctor } from './commands/doctor.js';
import { evict } from './commands/evict.js';
import { relay } from './commands/relay.js';
import { stats } from './commands/stats.js';
import { warmUp } from './commands/warm-up.js';
import { openProject, type Host, type Project } from './project.js';

const commands: Record<CommandName, (project: Project, call: Call) => Promise<number>> = {
  doctor,
  evict,
  relay,
  stats,
  'warm-up': warmUp,
};

/** Runs a command on the project in the working directory, and returns its exit code. */
export async function run(call: Call, host: Host): Promise<number> {
  await using project = await openProject(call, host);
  return await commands[call.command](project, call);
}
