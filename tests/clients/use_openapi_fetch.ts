// The types of openapi-typescript, with openapi-fetch.
import { strict as assert } from "node:assert";
import { openAsBlob } from "node:fs";

import createClient from "openapi-fetch";

import type { components, paths } from "./openapi";

type Code = components["schemas"]["Problem"]["code"];
// @ts-expect-error: no code of the service's, so the codes are an enumeration
const NONE: Code = "not_a_code";

function toForm(body: object): FormData {
    const form = new FormData();
    for (const [name, value] of Object.entries(body)) {
        form.append(name, value);
    }
    return form;
}

async function main(): Promise<void> {
    const client = createClient<paths>({ baseUrl: process.env["DARKROOM_URL"]! });
    const made = await client.POST("/users", {
        body: { username: "fetch", email: "fetch@example.com", password: "correct horse" },
    });
    assert.ok(made.data);
    const token = await client.POST("/users/token", {
        body: { username: "fetch", password: "correct horse" },
        headers: { "Content-Type": "application/x-www-form-urlencoded" },
        bodySerializer: (body) => new URLSearchParams({ ...body }),
    });
    assert.equal(token.data?.user.email, "fetch@example.com");
    const headers = { Authorization: `Bearer ${token.data.access_token}` };

    const me = { path: { user_id: "me" } } as const;
    const file: Blob = await openAsBlob(process.env["PHOTO"]!);
    const sent = await client.PATCH("/users/{user_id}/picture", {
        params: me,
        headers,
        body: { file },
        bodySerializer: toForm,
    });
    assert.ok(sent.data?.image_file);
    const refused = await client.PATCH("/users/{user_id}/picture", {
        params: me,
        headers,
        body: { file: new Blob(["This is no picture."]) },
        bodySerializer: toForm,
    });
    const code: Code | undefined = refused.error?.code;
    assert.equal(code, "not_a_picture");
    const deleted = await client.DELETE("/users/{user_id}", { params: me, headers });
    assert.equal(deleted.response.status, 204);
    assert.ok(NONE);
}

void main();
