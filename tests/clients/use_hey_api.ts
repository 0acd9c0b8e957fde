// The client of @hey-api/openapi-ts: its types are those of the service, and a Blob is taken as a file.
import { strict as assert } from "node:assert";
import { openAsBlob } from "node:fs";

import { deletePicture, deleteUser, logIn, readMe, readUser, register, replacePicture, updateUser } from "./darkroom";
import type { Problem, Token, UserWithNewPicture } from "./darkroom";
import { client } from "./darkroom/client.gen";

const SENTENCES: Partial<Record<Problem["code"], string>> = {
    not_a_picture: "That is no picture.",
    file_too_large: "That is too large.",
};
// @ts-expect-error: no code of the service's, so the codes are an enumeration
const NONE: Problem["code"] = "not_a_code";

async function main(): Promise<void> {
    client.setConfig({ baseUrl: process.env["DARKROOM_URL"]! });
    const made = await register({
        body: { username: "hey", email: "hey@example.com", password: "correct horse" },
        throwOnError: true,
    });
    const form = { username: "hey@example.com", password: "correct horse" };
    const token: Token = (await logIn({ body: form, throwOnError: true })).data;
    assert.equal(token.user.id, made.data.id);
    assert.ok(token.expires_in > 0);
    client.setConfig({ auth: () => token.access_token });

    const photo = await openAsBlob(process.env["PHOTO"]!);
    for (const file of [photo, new File([photo], "photo.jpg", { type: "image/jpeg" })]) {
        const sent = await replacePicture({ path: { user_id: "me" }, body: { file, crop: "0,0,200" } });
        const user: UserWithNewPicture | undefined = sent.data;
        assert.ok(user?.image_file);
        assert.equal(user.image_placeholder?.width, 300);
        assert.equal((await readMe({ throwOnError: true })).data.image_path, user.image_path);
    }
    const id = made.data.id;
    assert.equal((await updateUser({ path: { user_id: id }, body: { username: "hey 2" } })).data?.username, "hey 2");
    assert.equal((await deletePicture({ path: { user_id: "me" } })).data?.image_file, null);

    const text = new Blob(["This is no picture."]);
    const refused = await replacePicture({ path: { user_id: id }, body: { file: text } });
    const problem: Problem | undefined = refused.error;
    assert.equal(problem?.code, "not_a_picture");
    assert.equal(SENTENCES[problem.code], "That is no picture.");
    assert.equal(refused.response?.status, 400);
    const invalid = await register({ body: { username: "", email: "x@example.com", password: "short" } });
    assert.deepEqual(invalid.error?.errors?.map((error) => error.loc[1]), ["username", "password"]);

    await deleteUser({ path: { user_id: "me" }, throwOnError: true });
    assert.equal((await readUser({ path: { user_id: id } })).error?.code, "user_not_found");
    assert.ok(NONE);
}

void main();
