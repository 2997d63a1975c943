// A client on TypeScript SDK 1.x.   typescript_v1.mjs URL [--transport sse] [--resumable] [--streamless]
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { LoggingMessageNotificationSchema, ResourceListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'

import { afterDelete, args, exercise, heard, print, watchedFetch } from './typescript_common.mjs'

const Transport = args.transport === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport
const transport = new Transport(args.url, { fetch: watchedFetch })
const client = new Client({ name: 'typescript-v1', version: '1' })
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void heard.logs.push(params.data))
client.setNotificationHandler(ResourceListChangedNotificationSchema, () => void heard.announcements++)

await client.connect(transport)
const report = { server: client.getServerVersion().name, protocol: transport.protocolVersion ?? null }
Object.assign(report, await exercise(client, (parameters, options) => client.callTool(parameters, undefined, options)))
await transport.terminateSession?.()
await client.close()
print({ ...report, after_delete: await afterDelete() })
