// Searches through the HTTP API of `vireo web`, and prints the answer's JSON.
//
//     java Search.java http://127.0.0.1:8080 "hai con chó"

import java.io.PrintStream;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

public final class Search {
  public static void main(String[] arguments) throws Exception {
    String query = URLEncoder.encode(arguments[1], StandardCharsets.UTF_8);
    URI address = URI.create(arguments[0] + "/v1/search?k=5&q=" + query);
    HttpRequest.Builder request = HttpRequest.newBuilder(address).timeout(Duration.ofSeconds(30));
    String key = System.getenv("VIREO_WEB_KEY");
    if (key != null) {
      request.header("Authorization", "Bearer " + key);
    }
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    HttpResponse<String> answer =
        client.send(request.build(), HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
    new PrintStream(System.out, true, StandardCharsets.UTF_8).println(answer.body());
    System.exit(answer.statusCode() == 200 ? 0 : 1);
  }
}
