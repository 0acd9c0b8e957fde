// The types of openapi-typescript, with the transform of its documentation: what is binary is a Blob.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`);
const ts = require("typescript");
const { default: openapiTS, astToString } = await import(
    require.resolve("openapi-typescript").replace(".cjs", ".mjs")
);

const BLOB = ts.factory.createTypeReferenceNode("Blob");
const tree = await openapiTS(JSON.parse(readFileSync("openapi.json", "utf8")), {
    transform: (schema) => (schema.format === "binary" ? BLOB : undefined),
});
writeFileSync("openapi.d.ts", astToString(tree));
