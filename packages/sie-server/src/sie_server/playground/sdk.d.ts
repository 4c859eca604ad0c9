/** The types of sdk.js, which is generated from these sources. It is not part of the package. */
export * from "../../../../sie-ts/src/index.js";
