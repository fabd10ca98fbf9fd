// A stranger's program: reads topics with kafkajs and its registry client.
//
//     tidemill status --output json | node reader.mjs TOPIC...
//
// prints one JSON object per record. What outsiders read is in gzip, which kafkajs knows; `--lz4` adds a codec for all else.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { SchemaRegistry } from "@kafkajs/confluent-schema-registry";
import kafkajs from "kafkajs";
import lz4 from "lz4js";

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;

const words = process.argv.slice(2);
const topics = words.filter((word) => word !== "--lz4");
if (words.includes("--lz4")) {
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
    decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
  });
}

const status = JSON.parse(readFileSync(0, "utf8"));
const kafka = new Kafka({ brokers: [status.kafka], clientId: "plain-reader", logLevel: logLevel.ERROR });
const registry = new SchemaRegistry({ host: status.schema_registry });

/** How many records a topic of one partition holds now. */
async function size(topic) {
  const admin = kafka.admin();
  await admin.connect();
  const [{ high }] = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  return Number(high);
}

/** Of a record's numbers, as big-endian doubles, without what is missing: the same in every language. */
function digest(fields) {
  const numbers = Object.values(fields).filter((value) => typeof value === "number" && !Number.isNaN(value));
  const bytes = Buffer.alloc(8 * numbers.length);
  numbers.forEach((number, at) => bytes.writeDoubleBE(number, 8 * at));
  return createHash("sha256").update(bytes).digest("hex");
}

/** Print every record of a topic. */
async function print(topic) {
  const end = await size(topic);
  const consumer = kafka.consumer({ groupId: `plain-reader-${process.pid}-${topic}` });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    consumer.run({
      eachMessage: async ({ message }) => {
        const fields = await registry.decode(message.value);
        const key = message.key === null ? null : message.key.toString();
        console.log(JSON.stringify({ topic, name: fields.constructor.name, key, digest: digest(fields) }));
        if (Number(message.offset) + 1 >= end) resolve();
      },
    });
  });
  await consumer.disconnect();
}

for (const topic of topics) await print(topic);
