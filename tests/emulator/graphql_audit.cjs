// The audit suite of graphql-http against one endpoint: node graphql_audit.cjs MODULES URL TOKEN TENANT REPLACEMENTS
//
// The suite asks with documents of its own; an API of approved documents has to be asked with approved ones. So each
// document that the suite expects to run is exchanged for one that is approved (REPLACEMENTS: JSON, by document), and
// all else goes as the suite sends it. Prints every audit with its verdict as one JSON list.
const { join } = require("node:path");

const [modules, url, token, tenant, replacements] = process.argv.slice(2);
const { serverAudits } = require(join(modules, "graphql-http"));
const approved = JSON.parse(replacements);

function exchanged(body) {
  let request;
  try {
    request = JSON.parse(body);
  } catch {
    return body;
  }
  const found = typeof request.query === "string" ? approved[request.query] : undefined;
  if (found === undefined) return body;
  const { operationName, ...rest } = found;
  return JSON.stringify({
    ...request,
    ...rest,
    ...(typeof request.operationName === "string" ? { operationName } : {}),
  });
}

function fetchFn(target, init = {}) {
  const headers = new Headers(init.headers);
  headers.set("authorization", `Bearer ${token}`);
  headers.set("x-tenant-id", tenant);
  return fetch(target, { ...init, headers, body: init.body === undefined ? undefined : exchanged(init.body) });
}

async function main() {
  const told = [];
  for (const audit of serverAudits({ url, fetchFn })) {
    const { status, reason } = await audit.fn();
    told.push({ id: audit.id, name: audit.name, status, reason: reason ?? "" });
  }
  process.stdout.write(JSON.stringify(told));
}

main();
