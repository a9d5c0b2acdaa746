// The HTTP client of Java's own library, as it comes: it asks for HTTP/2 by an Upgrade header with its first request.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class JavaClient {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        StringBuilder replies = new StringBuilder("[");
        for (int i = 1; i < arguments.length; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/embeddings"))
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[i]))
                .build();
            HttpResponse<String> reply = client.send(request, HttpResponse.BodyHandlers.ofString());
            replies.append(i > 1 ? "," : "").append(reply.body());
        }
        System.out.println(replies.append("]"));
    }
}
