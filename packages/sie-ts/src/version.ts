/** The version of this SDK; every request carries it. */
export const SDK_VERSION = "0.1.0";
