/**
 * TypeScript client of SIE, the inference engine for reranking.
 *
 * @packageDocumentation
 */

export { SIEClient } from "./client.js";
export {
  AccountInactiveError,
  AccountStateUnavailableError,
  type ErrorDetails,
  type FailureKind,
  IncompleteBatchError,
  InputTooLongError,
  InsufficientCreditsError,
  LoraLoadingError,
  ModelLoadFailedError,
  ModelLoadingError,
  PoolError,
  ProvisioningError,
  RateLimitError,
  RelayUnavailableError,
  RequestError,
  ResourceExhaustedError,
  ServerError,
  SIEConnectionError,
  SIEError,
  SpendLimitError,
} from "./errors.js";
export {
  denseEmbedding,
  multivectorEmbedding,
  normalizeSparseVector,
  spanText,
  sparseEmbedding,
  sparseEmbeddingMap,
  toFloat32Array,
  toNumberArray,
} from "./messages/embeddings.js";
export { packMessage, unpackMessage } from "./messages/msgpack.js";
export type * from "./messages/status.js";
export { dotProduct, maxsim, maxsimBatch, maxsimDocuments, type Numbers } from "./scoring.js";
export type * from "./types.js";
export { SDK_VERSION } from "./version.js";
export type * from "./websocket.js";
