/** Marks that the mixins leave on a class, so that they work in any order and find each other. */
export const CORE = Symbol('mikro-orm-plus.core');
export const CACHED = Symbol('mikro-orm-plus.cached');
export const NON_ATOMIC = Symbol('mikro-orm-plus.non-atomic');

/** Puts a mark on a class. */
export function mark(repository: { prototype: object }, trait: symbol): void {
  Object.defineProperty(repository.prototype, trait, { value: true });
}

export function hasTrait(repository: object, trait: symbol): boolean {
  return (repository as Record<symbol, unknown>)[trait] === true;
}

const ownCreateEntity = new WeakSet<object>();

/** Remembers a `createEntity()` of the library's. */
export function noteOwnCreateEntity(method: object): void {
  ownCreateEntity.add(method);
}

/** Whether the application's class overrides `createEntity()`. */
export function overridesCreateEntity(repository: { createEntity?: unknown }): boolean {
  return !ownCreateEntity.has(repository.createEntity as object);
}
