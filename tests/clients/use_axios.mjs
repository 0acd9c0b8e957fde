// Asks the functions of docs/frontend.md for all that they promise, with axios.
import { strict as assert } from "node:assert";
import { openAsBlob } from "node:fs";

import { explain, logIn, register, sendPicture } from "./frontend.mjs";

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
