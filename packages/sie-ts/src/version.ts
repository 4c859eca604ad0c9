/** The version of this package, as in package.json. */
export const SDK_VERSION = "0.5.0";

/** The release of the public SIE whose HTTP interface this SDK uses; sent as `X-SIE-SDK-Version`. */
export const CONTRACT_VERSION = "0.10.1";
