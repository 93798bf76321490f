import { Controller, Get } from '@nestjs/common';
import {
  HealthCheck,
  HealthCheckService,
  HealthIndicatorService,
  MikroOrmHealthIndicator,
  type HealthCheckResult,
  type HealthIndicatorResult,
} from '@nestjs/terminus';
import { PlusSubscriber } from 'mikro-orm-plus';

@Controller('health')
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly database: MikroOrmHealthIndicator,
    private readonly indicators: HealthIndicatorService,
    private readonly plus: PlusSubscriber,
  ) {}

  @Get()
  @HealthCheck()
  check(): Promise<HealthCheckResult> {
    return this.health.check([() => this.database.pingCheck('database'), () => this.stores()]);
  }

  /** A store that is down makes the service slower, and nothing worse: it keeps its traffic. */
  private async stores(): Promise<HealthIndicatorResult> {
    const indicator = this.indicators.check('stores');
    try {
      await this.plus.ping();
      return indicator.up();
    } catch (error) {
      return indicator.degraded({ message: String(error) });
    }
  }
}
