// A client on TypeScript SDK 2.x.   typescript_v2.mjs URL [--transport sse] [--mode auto] [--resumable] [--streamless]
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

import { afterDelete, args, exercise, heard, print, watchedFetch } from './typescript_common.mjs'

const Transport = args.transport === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport
const transport = new Transport(args.url, { fetch: watchedFetch })
const client = new Client({ name: 'typescript-v2', version: '1' }, { versionNegotiation: { mode: args.mode } })
client.setNotificationHandler('notifications/message', ({ params }) => void heard.logs.push(params.data))
client.setNotificationHandler('notifications/resources/list_changed', () => void heard.announcements++)

await client.connect(transport)
const protocol = client.getNegotiatedProtocolVersion()
const report = { server: client.getServerVersion().name, protocol }
const modern = protocol >= '2026-07-28'
Object.assign(report, await exercise(client, (parameters, options) => client.callTool(parameters, options), modern))
if (!modern) await transport.terminateSession?.()
await client.close()
print({ ...report, after_delete: await afterDelete() })
