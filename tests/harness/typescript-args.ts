/** Arguments for Node.js with which it runs this project's TypeScript. */
export const typescriptArgs: readonly string[] = ['--import', new URL('./typescript.js', import.meta.url).href];
