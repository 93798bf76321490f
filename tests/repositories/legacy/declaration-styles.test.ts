import { checkDeclaration } from '../declaration-scenario.js';
import { Member, Tenant } from './entities.js';

test('entities declared with legacy decorators have their repository, cache region and relations', async () => {
  await expect(checkDeclaration(Tenant as never, Member as never)).resolves.toBeUndefined();
});
