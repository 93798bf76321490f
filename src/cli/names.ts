import { closestMatch } from 'leven';

/** "did you mean 'x'?" when a known name is near, else the list of known ones. */
export function suggestion(name: string, known: readonly string[]): string {
  const lower = new Map(known.map((each) => [each.toLowerCase(), each]));
  const near = closestMatch(name.toLowerCase(), [...lower.keys()], { maxDistance: Math.max(2, name.length / 3) });
  if (near !== undefined) return `Did you mean '${lower.get(near)}'?`;
  return known.length === 0 ? 'There are none.' : `Known: ${known.toSorted().join(', ')}.`;
}
