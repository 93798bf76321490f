import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  ATTR_DB_COLLECTION_NAME,
  ATTR_DB_OPERATION_BATCH_SIZE,
  ATTR_DB_OPERATION_NAME,
  ATTR_DB_SYSTEM_NAME,
  ATTR_ERROR_TYPE,
  DB_SYSTEM_NAME_VALUE_POSTGRESQL,
} from '@opentelemetry/semantic-conventions';
import { defineEntity, EntityRepository, p } from '@mikro-orm/postgresql';
import { GetOrCreate, withRepo, type CreationContext, type Values } from '../../src/index.js';
import { Tag } from '../cache/support/entities.js';
import { startCluster } from '../cache/support/cluster.js';
import { startRecorder } from './recorder.js';

const tracerOfTheApp = 'app';

class NoteRepository<E extends object> extends GetOrCreate(EntityRepository)<E> {
  protected override async createEntity(data: Values<E>, creation: CreationContext): Promise<E> {
    await creation.em.getRepository(Tag).getOrCreate({ name: 'nested' });
    return super.createEntity(data, creation);
  }
}
const Note = withRepo(
  defineEntity({
    name: 'Note',
    tableName: 'notes',
    properties: { id: p.integer().primary(), text: p.string().unique().length(8) },
  }),
  NoteRepository,
);

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
});
afterAll(() => context.disable());

describe('spans', () => {
  it('show each call, named by the conventions, with what its lookups came to and none of their values', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one] = cluster.services;
    await one.em().getRepository(Tag).getOrCreate({ name: 'secret' }, { weight: 4711 });
    const batch = [{ name: 'secret' }, { name: 'secret2' }];
    await one.em().getRepository(Tag).getOrCreateMany(batch);
    await one.em().getRepository(Tag).updateOrCreate({ name: 'secret' }, { weight: 4712 });

    const [first, second, third] = recorder.spans.getFinishedSpans();
    expect(first).toMatchObject({
      name: 'getOrCreate tag',
      kind: SpanKind.INTERNAL,
      instrumentationScope: { name: 'mikro-orm-plus' },
      status: { code: SpanStatusCode.UNSET },
    });
    expect(first!.attributes).toEqual({
      [ATTR_DB_SYSTEM_NAME]: DB_SYSTEM_NAME_VALUE_POSTGRESQL,
      [ATTR_DB_OPERATION_NAME]: 'getOrCreate',
      [ATTR_DB_COLLECTION_NAME]: 'tag',
      'mikro_orm_plus.entity': 'Tag',
      'mikro_orm_plus.results.created': 1,
    });
    expect(second).toMatchObject({ name: 'BATCH getOrCreate tag' });
    expect(second!.attributes).toMatchObject({
      [ATTR_DB_OPERATION_BATCH_SIZE]: 2,
      'mikro_orm_plus.results.store': 1,
      'mikro_orm_plus.results.created': 1,
    });
    expect(third!.attributes).toMatchObject({
      [ATTR_DB_OPERATION_NAME]: 'updateOrCreate',
      'mikro_orm_plus.results.updated': 1,
    });
    expect(JSON.stringify(recorder.spans.getFinishedSpans().map(({ attributes }) => attributes))).not.toMatch(
      /secret|471/,
    );
  });

  it('are children of the active span, and parents of what happens within the call', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag, Note] });
    const [one] = cluster.services;
    const tracer = recorder.tracerProvider.getTracer(tracerOfTheApp);
    await tracer.startActiveSpan('request', async (request) => {
      await one.em().getRepository(Note).getOrCreate({ text: 'a' });
      request.end();
    });
    const [nested, note, request] = recorder.spans.getFinishedSpans();
    expect([nested, note, request].map((span) => span!.name)).toEqual([
      'getOrCreate tag',
      'getOrCreate notes',
      'request',
    ]);
    expect(note!.parentSpanContext?.spanId).toBe(request!.spanContext().spanId);
    expect(nested!.parentSpanContext?.spanId).toBe(note!.spanContext().spanId);
    // each span has the results of its own call
    for (const span of [nested, note]) expect(span!.attributes).toMatchObject({ 'mikro_orm_plus.results.created': 1 });
    expect(trace.getActiveSpan()).toBeUndefined();
  });

  it('do not mix up calls that run at the same time', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one] = cluster.services;
    await one.em().getRepository(Tag).getOrCreate({ name: '0' });
    await Promise.all(['0', '1', '2', '3'].map((name) => one.em().getRepository(Tag).getOrCreate({ name })));
    const spans = recorder.spans.getFinishedSpans().slice(1);
    const results = spans.map(({ attributes }) =>
      Object.entries(attributes).filter(([name]) => name.startsWith('mikro_orm_plus.results.')),
    );
    for (const result of results) expect(result).toHaveLength(1);
    expect(
      results
        .flat()
        .map(([name]) => name.split('.').at(-1)!)
        .toSorted((left, right) => left.localeCompare(right)),
    ).toEqual(['created', 'created', 'created', 'store']);
  });

  it('name the class of an error, and not its message, which may hold values', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag, Note] });
    const [one] = cluster.services;
    const failing = one.em().getRepository(Note).getOrCreate({ text: 'far too long to fit' });
    await expect(failing).rejects.toThrow('too long');
    const span = recorder.spans.getFinishedSpans().find(({ name }) => name === 'getOrCreate notes')!;
    expect(span.status).toEqual({ code: SpanStatusCode.ERROR });
    expect(span.attributes[ATTR_ERROR_TYPE]).toBe('DriverException');
    expect(span.events).toEqual([]);
  });
});
