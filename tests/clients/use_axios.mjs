// Asks the functions of docs/frontend.md for all that they promise, with axios.
import { strict as assert } from "node:assert";
import { openAsBlob } from "node:fs";

import { explain, logIn, register, sendPicture, tryAgain } from "./frontend.mjs";

const made = await register("axios", "axios@example.com", "correct horse");
assert.equal((await logIn("axios", "correct horse")).id, made.id);

const photo = await openAsBlob(process.env.PHOTO);
const progress = [];
const user = await sendPicture(photo, { onProgress: (share) => progress.push(share) });
assert.ok(user.image_file);
assert.equal(progress.at(-1), 1);

const controller = new AbortController();
const cancelled = sendPicture(photo, { signal: controller.signal });
controller.abort();
assert.equal((await cancelled.catch(explain)).code, "cancelled");

const refused = await sendPicture(new Blob(["This is no picture."])).catch(explain);
assert.equal(refused.code, "not_a_picture");
assert.match(refused.sentence, /^This file is not a picture/);
const wrong = await logIn("axios", "wrong horse").catch(explain);
assert.equal(wrong.code, "wrong_credentials");

let attempts = 0;
const passing = { response: { status: 503, headers: { "retry-after": "0" } } };
const settled = await tryAgain(async () => {
    attempts += 1;
    if (attempts < 3) throw passing;
    return await sendPicture(photo);
});
assert.equal(attempts, 3);
assert.notEqual(settled.image_file, user.image_file);
let refusals = 0;
const hopeless = tryAgain(() => {
    refusals += 1;
    return sendPicture(new Blob(["This is no picture."]));
});
assert.equal((await hopeless.catch(explain)).code, "not_a_picture");
assert.equal(refusals, 1);
