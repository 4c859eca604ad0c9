/** Messages of the status stream, with the names of the wire. */

import type { ModelInfo } from "../types.js";

/** A model and its queue, in requests (`queue_depth`), in texts or pairs, and in seconds of device time. */
export interface ModelStatus {
  name: string;
  state: ModelInfo["state"];
  device: string | null;
  memory_bytes: number;
  config: {
    hf_id: string;
    adapter: string;
    inputs: string[];
    outputs: string[];
    dims: Record<string, number | null>;
    max_sequence_length?: number | null;
  };
  queue_depth: number;
  queue_pending_items: number;
  queue_seconds?: number;
}

/** A GPU; `utilization_pct` is the share of the time since the last status in which it was busy. */
export interface GpuStatus {
  device: string;
  name: string;
  gpu_type: string;
  utilization_pct: number;
  memory_used_bytes: number;
  memory_total_bytes: number;
  memory_threshold_pct?: number;
}

/** The status of a server; `timestamp` is in Unix seconds. */
export interface StatusMessage {
  timestamp: number;
  name: string;
  machine_profile: string;
  gpu_count: number;
  bundle: string;
  loaded_models: string[];
  server: { version: string; uptime_seconds: number; user: string; working_dir: string; pid: number };
  gpus: GpuStatus[];
  /** The largest in memory first. */
  models: ModelStatus[];
  ready?: boolean;
  saturated?: boolean;
  queue_seconds?: number;
  /** Tokens that wait for the device. */
  queued_tokens?: number;
  /** Tokens that the device has computed since the server started. */
  computed_tokens?: number;
  /** The share of the time since the last status in which the device was busy. */
  utilization_pct?: number;
  pool_name?: string;
  bundle_config_hash?: string;
  max_batch_requests?: number;
}

/** `StatusMessage` under the name that programs for the public SDK import. */
export type WorkerStatusMessage = StatusMessage;
