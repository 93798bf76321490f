export default async function globalTeardown() {
  await globalThis.mikroOrmPlusServers.stop();
}
