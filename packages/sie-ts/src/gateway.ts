/**
 * What only a gateway in front of several machines answers: which there are, and pools of them that one may reserve.
 * A pool is kept by a lease, which has to be renewed.
 */

import type { Endpoint } from "./endpoint.js";
import { modelPath } from "./endpoint.js";
import { PoolError, ProvisioningError, RequestError, ServerError, SIEConnectionError } from "./errors.js";
import { type Call, exchange, pause, type Transport } from "./exchange.js";
import { isMap } from "./msgpack.js";
import type { Reply } from "./reply.js";
import { camelCased, jsonMap, modelInfo } from "./results.js";
import type { CallOptions, CapacityInfo, PoolInfo, PoolOptions, WaitForCapacityOptions } from "./types.js";

const DEFAULT_WAIT_MS = 900_000;
const DEFAULT_POLL_MS = 5000;
// A lease lasts for some minutes.
const RENEWAL_MS = 60_000;

/** The gateway at an endpoint. */
export class Gateway {
  readonly #endpoint: Endpoint;
  readonly #transport: Transport;
  readonly #leases = new Map<string, ReturnType<typeof setInterval>>();

  constructor(endpoint: Endpoint, transport: Transport) {
    this.#endpoint = endpoint;
    this.#transport = transport;
  }

  async capacity(gpu: string | undefined, options: CallOptions): Promise<CapacityInfo> {
    return this.#send(this.#endpoint.lookUp("/health", undefined, (reply) => capacityIn(reply, gpu), options));
  }

  async wait(gpu: string, options: WaitForCapacityOptions, warmUp: WarmUp): Promise<CapacityInfo> {
    const { timeoutMs = DEFAULT_WAIT_MS, pollIntervalMs = DEFAULT_POLL_MS, signal } = options;
    for (const ms of [timeoutMs, pollIntervalMs]) {
      if (!(Number.isFinite(ms) && ms >= 0)) throw new RangeError(`can't wait for ${ms} ms`);
    }
    const deadline = performance.now() + timeoutMs;
    let { model } = options;
    for (;;) {
      let cause: unknown;
      try {
        if (model !== undefined) await warmUp(model, Math.max(deadline - performance.now(), 0));
        model = undefined;
        const capacity = await this.capacity(gpu, { signal });
        if (capacity.workerCount > 0) return capacity;
      } catch (error) {
        if (!(error instanceof SIEConnectionError || error instanceof ServerError)) throw error;
        cause = error;
      }
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) {
        throw new ProvisioningError(`no machine of profile ${gpu} within ${timeoutMs / 1000} s`, { gpu, cause });
      }
      await pause(Math.min(pollIntervalMs, leftMs), signal);
    }
  }

  /** What a model makes of an item: kinds of embeddings, or scores only. */
  async outputs(model: string, signal: AbortSignal | undefined): Promise<string[]> {
    const path = `/v1/models/${modelPath(model)}`;
    const { outputs } = await this.#send(this.#endpoint.lookUp(path, model, modelInfo, { signal }));
    return outputs ?? [];
  }

  async create(name: string, gpus: Readonly<Record<string, number>>, options: PoolOptions): Promise<PoolInfo> {
    const { gpuCaps: gpu_caps, bundle, minimumWorkerCount: minimum_worker_count, ...call } = options;
    const spec = { name, gpus, gpu_caps, bundle, minimum_worker_count };
    const asked = this.#endpoint.lookUp("/v1/pools", undefined, poolIn, call, "POST", JSON.stringify(spec));
    const pool = await this.#send(asked).catch((error: unknown) => {
      if (!(error instanceof RequestError || error instanceof ServerError)) throw error;
      const { message, code, statusCode, request, retryAfter } = error;
      throw new PoolError(message, name, undefined, { code, statusCode, request, retryAfter, cause: error });
    });
    if (!this.#leases.has(name)) {
      const lease = setInterval(() => this.#renew(name), RENEWAL_MS);
      // A program that is done ends, in Node; elsewhere a timer is a number.
      (lease as { unref?: () => void }).unref?.();
      this.#leases.set(name, lease);
    }
    return pool;
  }

  async pool(name: string, options: CallOptions): Promise<PoolInfo | null> {
    return this.#send(this.#endpoint.lookUp(poolPath(name), undefined, poolIn, options)).catch(orIfMissing(null));
  }

  async delete(name: string, options: CallOptions): Promise<boolean> {
    clearInterval(this.#leases.get(name));
    this.#leases.delete(name);
    const asked = this.#endpoint.lookUp(poolPath(name), undefined, () => true, options, "DELETE");
    return this.#send(asked).catch(orIfMissing(false));
  }

  close(): void {
    for (const lease of this.#leases.values()) clearInterval(lease);
    this.#leases.clear();
  }

  #renew(name: string): void {
    const asked = this.#endpoint.lookUp(`${poolPath(name)}/renew`, undefined, () => true, {}, "POST");
    this.#send(asked).catch((error) => console.warn(`sie: the lease of the pool ${name} is not renewed: ${error}`));
  }

  #send<T>(call: Call<T>): Promise<T> {
    return exchange(call, this.#transport);
  }
}

/** Has a model loaded on a machine, within some time: only a request makes a gateway start one. */
export type WarmUp = (model: string, budgetMs: number) => Promise<unknown>;

function capacityIn(reply: Reply, gpu: string | undefined): CapacityInfo {
  const body = jsonMap(reply, "health");
  const { cluster, workers } = body;
  if (!isMap(cluster)) {
    throw new RequestError("this is no gateway: it says nothing of a cluster", { statusCode: reply.status });
  }
  const all = (Array.isArray(workers) ? workers : []).filter(isMap).map(camelCased);
  const profile = gpu?.slice(gpu.lastIndexOf("/") + 1).toLowerCase();
  const asked = profile === undefined ? all : all.filter((w) => String(w["gpu"]).toLowerCase() === profile);
  const healthy = asked.filter((worker) => worker["healthy"] !== false).length;
  return {
    status: String(body["status"] ?? "unknown"),
    workerCount: profile === undefined ? Number(cluster["worker_count"] ?? 0) : healthy,
    gpuCount: Number(cluster["gpu_count"] ?? 0),
    modelsLoaded: Number(cluster["models_loaded"] ?? 0),
    configuredGpuTypes: (body["configured_gpu_types"] ?? []) as string[],
    liveGpuTypes: (body["live_gpu_types"] ?? []) as string[],
    workers: asked as CapacityInfo["workers"],
  };
}

function poolIn(reply: Reply): PoolInfo {
  const { name, spec, status } = jsonMap(reply, "pool");
  return {
    name: String(name),
    spec: camelCased(isMap(spec) ? spec : {}) as PoolInfo["spec"],
    status: camelCased(isMap(status) ? status : {}) as unknown as PoolInfo["status"],
  };
}

function poolPath(name: string): string {
  if (!name) throw new TypeError("a pool has a name");
  return `/v1/pools/${encodeURIComponent(name)}`;
}

function orIfMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof RequestError && error.statusCode === 404) return value;
    throw error;
  };
}
