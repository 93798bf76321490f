/**
 * What a process's relay is. `active`: it delivers, for all processes. `standby`: another one does, and this one takes
 * over when that one is gone. `disconnected`: it has no connection now, and is trying. `stopped`: closed, or can't work.
 */
export type RelayRole = 'active' | 'standby' | 'stopped' | 'disconnected';

/** How a process's relay is doing. */
export interface RelayStatus {
  readonly role: RelayRole;
  /** Whether its connection listens. While it doesn't, regions in this process's own memory serve nothing. */
  readonly listening: boolean;
  /** Rows of the change log that this relay has delivered since its start. */
  readonly delivered: number;
  /** Rows left in the log when it last looked, counted up to 100 000; unknown to a stand-by. */
  readonly backlog?: number;
  readonly lastDeliveryAt?: Date;
  /** What doesn't work at the moment. */
  readonly lastError?: string;
}
