// A client on TypeScript SDK 1.x; its jobs come on standard input.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { LoggingMessageNotificationSchema, ResourceListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'

import { afterDelete, exercise, Heard, serve } from './typescript_common.mjs'

serve(async job => {
  const heard = new Heard()
  const Transport = job.transport === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport
  const transport = new Transport(job.url, { fetch: heard.fetch })
  const client = new Client({ name: 'typescript-v1', version: '1' })
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void heard.logs.push(params.data))
  client.setNotificationHandler(ResourceListChangedNotificationSchema, () => void heard.announcements++)

  await client.connect(transport)
  const report = { server: client.getServerVersion().name, protocol: transport.protocolVersion ?? null }
  const callTool = (parameters, options) => client.callTool(parameters, undefined, options)
  Object.assign(report, await exercise(client, callTool, job, heard, false))
  await transport.terminateSession?.()
  await client.close()
  return { ...report, wire: heard.wire, after_delete: await afterDelete(job, heard) }
})
