/** How TypeScript becomes JavaScript in tests: for Jest, and for the processes that tests start. */
export const swcOptions = (decorators = { decoratorVersion: '2022-03' }) => ({
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: decorators,
    target: 'es2022',
    keepClassNames: true,
  },
  sourceMaps: 'inline',
});
