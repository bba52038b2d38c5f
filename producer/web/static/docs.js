// The API's documentation, drawn from its own OpenAPI document: nothing is loaded from elsewhere.
function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function table(rows) {
  const body = element("tbody");
  for (const cells of rows) body.append(element("tr", "", ...cells.map((cell) => element("td", cell))));
  return element("table", "", body);
}

function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return [schema.type ?? "any"].flat().join(" or ") + (schema.format ? ` (${schema.format})` : "");
}

function operation(document_, path, method, entry) {
  const about = document_.paths[path][method];
  const section = element("section", "", element("h2", `${method.toUpperCase()} ${document_.servers[0].url}${path}`));
  section.append(element("p", about.summary));
  const parameters = [...(entry.parameters ?? []), ...(about.parameters ?? [])];
  if (parameters.length) {
    section.append(table(parameters.map((one) => [one.name, one.in, typeOf(one.schema), one.description ?? ""])));
  }
  if (about.requestBody) {
    section.append(element("p", `Body: ${Object.keys(about.requestBody.content).join(", ")}`));
  }
  section.append(table(Object.entries(about.responses).map(([code, answer]) => {
    const [media, content] = Object.entries(answer.content ?? {})[0] ?? ["", {}];
    return [code, answer.description, media, media ? typeOf(content.schema) : ""];
  })));
  return section;
}

const answer = await fetch("/api/v1/openapi.json");
const described = await answer.json();
const main = document.getElementById("operations");
for (const [path, entry] of Object.entries(described.paths)) {
  for (const method of ["get", "post", "delete"]) {
    if (entry[method]) main.append(operation(described, path, method, entry));
  }
}
for (const [name, schema] of Object.entries(described.components.schemas)) {
  main.append(element("h2", name), table(Object.entries(schema.properties).map(([field, type]) => [field, typeOf(type)])));
}
