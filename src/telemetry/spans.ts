import { AsyncLocalStorage } from 'node:async_hooks';
import { context, SpanKind, SpanStatusCode, trace, type Context, type Span, type Tracer } from '@opentelemetry/api';
import { calls, onMessage, type CallMessage, type LookupMessage } from '../observability/channels.js';
import { ENTITY, errorType, RACE_LOST, resultOf, type Result } from './attributes.js';
import type { End } from './metrics.js';

/** A call under way. */
interface Recorded {
  readonly span: Span;
  readonly results: Map<Result, number>;
}

/** Lets a channel run what it traces in a context of OpenTelemetry's, so that spans within it become its children. */
class ContextStorage extends AsyncLocalStorage<Context> {
  override run<R, Args extends unknown[]>(store: Context, work: (...args: Args) => R, ...args: Args): R {
    return context.with(store, () => work(...args));
  }
}

/** Records a span for each call until the returned function is called. */
export function recordSpans(tracer: Tracer): End {
  const contexts = new ContextStorage() as AsyncLocalStorage<unknown> as AsyncLocalStorage<CallMessage>;
  const byMessage = new WeakMap<object, Recorded>();
  const bySpan = new WeakMap<Span, Recorded>();

  const start = (message: CallMessage): Context => {
    const span = startSpan(tracer, message);
    const recorded = { span, results: new Map<Result, number>() };
    byMessage.set(message, recorded);
    bySpan.set(span, recorded);
    return trace.setSpan(context.active(), span);
  };
  const onLookup = (message: LookupMessage): void => {
    const active = trace.getSpan(context.active());
    const recorded = active && bySpan.get(active);
    if (recorded) noteResult(recorded, message);
  };
  const subscribers = {
    error: (message: CallMessage & { error: unknown }): void => {
      const recorded = byMessage.get(message);
      recorded?.span.setAttribute('error.type', errorType(message.error)).setStatus({ code: SpanStatusCode.ERROR });
    },
    asyncEnd: (message: CallMessage): void => {
      const recorded = byMessage.get(message);
      if (recorded) endSpan(recorded);
    },
  };

  calls.start.bindStore(contexts, start as (message: CallMessage) => never);
  calls.subscribe(subscribers as Parameters<typeof calls.subscribe>[0]);
  const end = onMessage('lookup', onLookup);
  return () => {
    calls.start.unbindStore(contexts);
    calls.unsubscribe(subscribers as Parameters<typeof calls.unsubscribe>[0]);
    end();
  };
}

/** Named as the conventions for databases name a call of a client's own interface; what it sends has spans below it. */
function startSpan(tracer: Tracer, { operation, entity, table, size }: CallMessage): Span {
  const isBatch = size > 1;
  const name = isBatch ? `BATCH ${operation}` : operation;
  return tracer.startSpan(`${name} ${table}`, {
    // it may be answered within this process: the spans of the database's and the store's clients are the CLIENT ones
    kind: SpanKind.INTERNAL,
    attributes: {
      'db.system.name': 'postgresql',
      'db.operation.name': name,
      'db.collection.name': table,
      ...(isBatch ? { 'db.operation.batch.size': size } : {}),
      [ENTITY]: entity,
    },
  });
}

function noteResult({ span, results }: Recorded, message: LookupMessage): void {
  const result = resultOf(message);
  results.set(result, (results.get(result) ?? 0) + 1);
  if (message.raceLost) span.setAttribute(RACE_LOST, true);
}

function endSpan({ span, results }: Recorded): void {
  for (const [result, count] of results) span.setAttribute(`mikro_orm_plus.results.${result}`, count);
  span.end();
}
